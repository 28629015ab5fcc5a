"""Features of a stage: ComParE 2016 functionals and log-mel spectrograms, and their shards."""
