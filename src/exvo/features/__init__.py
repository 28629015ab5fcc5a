"""Features of a stage (openSMILE functionals, log-mel spectrograms) and the shards that store them."""
