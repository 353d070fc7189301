"""What runs on one machine: the embedded Kafka. Holds its errors; must stay light to import."""

from events.errors import TeoError


class EmbeddedKafkaError(TeoError):
    """Base of what can go wrong with the Kafka that runs on this machine."""

    code = "embedded_kafka"


class ExtraMissing(EmbeddedKafkaError):
    """Raised when the packages of the extra `local` (a JVM, a jar resolver) are not installed."""

    code = "extra_missing"


class JarsUnavailable(EmbeddedKafkaError):
    """Raised when a jar of Kafka cannot be had, or is not the one that was pinned."""

    code = "jars_unavailable"
    retriable = True


class DataFolderRefused(EmbeddedKafkaError):
    """Raised when a data folder is in use, belongs to another cluster, or is not ours at all."""

    code = "data_folder_refused"


class PortBusy(EmbeddedKafkaError):
    """Raised when the port that was asked for is taken."""

    code = "port_busy"


class BrokerFailed(EmbeddedKafkaError):
    """Raised when a broker ended, or did not answer in time; the message has the end of its log."""

    code = "broker_failed"
