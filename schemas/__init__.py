"""The Avro contract: `.avsc` files by family, frozen published versions and their ids."""
