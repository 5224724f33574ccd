"""How torch is set up for a whole program.

The thread count by its entry points, not by an import; the precision by whatever first works on a
GPU.
"""

import torch


def use_one_thread() -> None:
    """Small matrices gain nothing from a second thread, and lose tenfold on shared cores."""
    torch.set_num_threads(1)


def use_whole_floats() -> None:
    """No TF32 on a GPU: its ten bits of mantissa move scores by about 1e-3, and with them alarms.

    cuDNN would use it unasked.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def computed(precision: str, device: str) -> torch.autocast:
    """Convolutions and products in this precision: float32, bfloat16, or auto.

    auto: bfloat16 where the processor has instructions for it. What is kept stays float32.
    """
    half = precision == "bfloat16" or (precision == "auto" and computes_bfloat16(device))
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half)


def computes_bfloat16(device: str) -> bool:
    """Whether a device has instructions for it: on others it is slower than float32."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
