"""Any collator against a contract."""
