"""Closed-form repair."""
