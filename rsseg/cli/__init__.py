"""The command `rsseg` and the command line of the training scripts: one file a verb."""
