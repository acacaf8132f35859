"""What programs share with Quotafleet: generated messages and stubs, error reasons, codes."""
