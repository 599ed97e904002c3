"""Where the stand-in cloud is, for names of resources."""

REGION = "eu-west-1"
ACCOUNT = "123456789012"
