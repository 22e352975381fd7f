"""The ledger's migrations, each as it was when it was released: never changed again."""
