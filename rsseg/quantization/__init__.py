"""Quantised convolutions: LQ-Nets and LSQ."""
