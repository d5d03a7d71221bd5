"""Files that survive kills, full disks, several processes and hostile archives."""
