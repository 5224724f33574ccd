import socket

from support.receivers import receiving


def test_a_sender_that_dies_within_its_body_has_sent_nothing():
    with receiving() as receiver:
        port = int(receiver.url.rsplit(":", 1)[1].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sender:
            sender.sendall(b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
            sender.shutdown(socket.SHUT_WR)
            assert sender.recv(1) == b""  # hung up on, not answered
        assert receiver.got == receiver.taken == []
