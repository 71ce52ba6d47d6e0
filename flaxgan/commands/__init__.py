"""The commands: `flaxgan train | sample | evaluate | export | inspect | benchmark`."""
