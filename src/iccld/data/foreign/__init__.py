"""Reading of annotation formats (COCO, YOLO, labelme, CVAT and more), and drawing of label maps from them."""
