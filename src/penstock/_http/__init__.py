"""HTTP/1.1 on sockets: connections, and one exchange at a time on each of them.

The only package that imports httpcore. HTTP/2 is left out on purpose: on one shared
connection a slow consumer stalls its siblings, and leaving a stream early does not stop
the server.
"""
