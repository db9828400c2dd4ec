"""x"""
def show():
    pass
