"""The relays: AI gateways whose key API makes, limits and ends the keys that we lease.

``interface``              what every driver answers, and its errors on two axes
``registry``               which relays there are
``address``                which base URLs are allowed
``classify``               what a failed call means; pure
``signing``                HMAC request signatures; pure
``client``                 one HTTP call to a relay, for every driver
``holysheep``              the driver of the holysheep key API
``holysheep_keys``         that API's shapes, and what a role may ask of it; pure
"""
