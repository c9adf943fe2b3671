"""What a sensor would see of a world: LiDAR points, observed voxels, hollow labels."""
