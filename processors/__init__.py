"""Makers of facts and runners of tests: runtime, scheduler, saga, worker, watchers."""
