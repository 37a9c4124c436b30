"""`cmgems compare`"""
def configure(parser): pass
def run(args): pass
