"""Conformance of a Kafka broker, seen by unmodified Python clients and by a raw socket."""
