"""paho's client on our wire, as the settings say. Imported when a link is opened."""

from collections.abc import Sequence

from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from connectors.mqtt.settings import LinkSettings
from connectors.mqtt.wire import Wire

QOS = 1


class WiredClient(Client):
    """paho's client with a socket that is there already, so that waiting for one can be ended."""

    def __init__(self, wire: Wire, settings: LinkSettings, *, keeps_session: bool) -> None:
        newest = settings.protocol == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTv5 if newest else MQTTv311,
            clean_session=None if newest else not keeps_session,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        self._settings_given = settings
        self._wire = wire
        self._keeps_session = keeps_session

    def _create_socket(self) -> Wire:
        """In place of paho's own, which blocks. A wrapper is what its websockets are, too."""
        return self._wire

    def greet(
        self, *, session_expiry_s: int, receive_maximum: int | None, packet_bytes: int | None
    ) -> None:
        """Send CONNECT."""
        settings = self._settings_given
        if settings.protocol != "5":
            self.connect(settings.host, settings.resolved_port, settings.keepalive_s)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no type for it
        if session_expiry_s:
            properties.SessionExpiryInterval = session_expiry_s
        if receive_maximum is not None:
            properties.ReceiveMaximum = receive_maximum
        if packet_bytes is not None:
            properties.MaximumPacketSize = packet_bytes
        self.connect(
            settings.host,
            settings.resolved_port,
            settings.keepalive_s,
            clean_start=not self._keeps_session,
            properties=properties,
        )

    def ask_for(self, topics: Sequence[str]) -> int:
        """Send SUBSCRIBE; its packet's number. Last values come with a new subscription only."""
        if self._settings_given.protocol != "5":
            _, number = self.subscribe([(topic, QOS) for topic in topics])
        else:
            options = SubscribeOptions(
                qos=QOS, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            )
            _, number = self.subscribe([(topic, options) for topic in topics])
        assert number is not None  # noqa: S101 - only without a socket
        return number

    def give_up(self, topics: Sequence[str]) -> int:
        """Send UNSUBSCRIBE; its packet's number."""
        _, number = self.unsubscribe([*topics])
        assert number is not None  # noqa: S101 - only without a socket
        return number

    def leave(self, *, forget: bool) -> None:
        """Send DISCONNECT. ``forget``: the session is to end with it (not in MQTT 3.1.1)."""
        properties = None
        if forget and self._settings_given.protocol == "5":
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call] # as above
            properties.SessionExpiryInterval = 0
        self.disconnect(properties=properties)
