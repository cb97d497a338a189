"""What the stage `drift` is made of: what a version was trained on, what live turns say of it, and the judgement."""
