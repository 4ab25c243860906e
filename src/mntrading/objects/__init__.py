"""What the project needs of an object store beside the bytes of its datasets: conditional writes, leases, uploads."""
