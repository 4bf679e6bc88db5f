"""What a command line changes in a config, checked before anything is built; `StartupCheck` is called by configs."""
