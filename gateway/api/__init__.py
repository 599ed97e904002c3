"""HTTP: a route table from which the routes and their OpenAPI document are made."""
