"""Detections in the forms of other tools and back: COCO results, GeoJSON, pandas, supervision (`Detections.to_*`)."""
