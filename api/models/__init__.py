"""What requests and answers look like, as pydantic models; the source of the OpenAPI document."""
