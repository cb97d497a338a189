"""The rules of the playbook linter, by what they look at. Standard library and PyYAML only."""
