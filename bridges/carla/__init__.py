"""Clips recorded from a live CARLA server: `record.record(order.RecordOrder(...), tell, progress)`.

The process that calls it never loads CARLA's client, since that library ends its process where something goes wrong:
processes of their own talk to the server (worker.py), and the caller's watches over them (watch.py).
"""
