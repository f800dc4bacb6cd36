"""The HTTP service: images in, classes or label maps out; under overload at lower resolutions.

`app` knows HTTP, `service` what a request goes through, `admission` which resolution it gets.
"""
