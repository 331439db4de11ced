"""What tests of several rooms share: a simulator, programs, a whole installation, clocks."""
