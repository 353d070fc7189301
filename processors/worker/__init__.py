"""The worker: runs attempts through adapters and reports what happened. Decides nothing else."""
