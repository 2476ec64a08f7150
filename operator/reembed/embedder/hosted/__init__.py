"""A model that an endpoint hosts, asked for its vectors within its limits. Texts leave the cluster from here."""
