"""The API written a second time, from the vendor's pages alone: Flask, Flask-SQLAlchemy, PostgreSQL, gunicorn."""
