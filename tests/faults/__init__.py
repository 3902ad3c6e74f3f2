"""Campaigns of faults: kills, damaged bytes, lost parts, full disks, against an undisturbed run."""
