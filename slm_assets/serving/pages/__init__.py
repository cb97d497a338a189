"""What a person sees in a browser: an overview, a page for each domain, reports. No script, no internet."""
