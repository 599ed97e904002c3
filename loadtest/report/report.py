def html(runs): return "stub"
def run_of(*a): return {}
