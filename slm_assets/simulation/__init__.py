"""Traffic as a domain's scenarios describe it: sent to the service, or written for the drop folder."""
