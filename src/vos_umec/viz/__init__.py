"""Pictures for people: contact sheets, segments, overlays in a grid."""
