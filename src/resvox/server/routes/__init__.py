"""The routes, one module for each group: jobs, MONAI Label's protocol, the page, and the state of the server."""
