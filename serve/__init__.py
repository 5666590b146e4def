"""What a user deploys: app.py and config.yaml. The code is `fkp.serve`."""
