"""Load images and masks, and save masks on their own grid."""
