"""Every rule by plain scans over all records: what the engine has to agree with."""
