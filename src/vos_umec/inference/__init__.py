"""From one mask to every frame: reference memory, windowed read-out, the step-by-step segmenter."""
