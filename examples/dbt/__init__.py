"""A dbt project on the tables of the tap."""
