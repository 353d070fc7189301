"""The log on a Kafka cluster: beside the Faust watchers the only place that talks to Kafka."""
