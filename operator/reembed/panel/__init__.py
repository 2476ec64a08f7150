"""The agents of a panel: each measures by itself, judges what is proposed, and signs what it says."""
