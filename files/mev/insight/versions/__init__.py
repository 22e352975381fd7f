"""The migrations of performance_metrics.db, each as it was when it was released: never changed again."""
