"""Secrets: a setting names the file or the environment variable that holds one, never the secret.

Read anew at each ``open()``, so that one that was changed counts from the next connection on.
"""

import os
from pathlib import Path

from pydantic import SecretStr

from connectors.contract import NotReadyError

LONGEST_BYTES = 1 << 16  # a larger file is no secret, but the wrong file


def read_secret(
    what: str, *, file: str | None, env: str | None, connector: str
) -> SecretStr | None:
    """The secret in ``file`` or else in variable ``env``, stripped; None where neither is named.

    ``what`` is what errors call it: "token". Raises NotReadyError: a person can put it there while
    we wait.
    """

    def not_ready(problem: str) -> NotReadyError:
        return NotReadyError(f"{connector}: {what}: {problem}", connector=connector)

    if file is not None:
        try:
            with Path(file).open("rb") as stream:
                raw = stream.read(LONGEST_BYTES + 1)
        except OSError as error:
            raise not_ready(
                f"cannot read {file}: {error.strerror or 'no file'}; want a file that holds it and "
                "that this user may read"
            ) from error
        if len(raw) > LONGEST_BYTES:
            raise not_ready(f"{file} has more than {LONGEST_BYTES:,} bytes; is it another file?")
        try:
            text = raw.decode("utf-8-sig").strip()
        except UnicodeDecodeError:  # the error shows what it could not decode
            raise not_ready(f"{file} is not UTF-8; want plain text") from None
        where = file
    elif env is not None:
        text = os.environ.get(env, "").strip()
        where = f"environment variable {env}"
    else:
        return None
    if not text:
        raise not_ready(f"{where} is empty or not set; want the {what} in it")
    return SecretStr(text)
