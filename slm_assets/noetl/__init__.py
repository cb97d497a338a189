"""NoETL: the mirror of the asset graph, and a linter that serves anyone's playbooks."""
