"""x"""
def show(experiment_id, row):
    pass
