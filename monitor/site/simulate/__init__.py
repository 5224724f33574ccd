"""The load generator: machines over real OPC UA and MQTT, and a ledger of all that was sent."""
