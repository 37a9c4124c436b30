"""When which strategy masks."""
